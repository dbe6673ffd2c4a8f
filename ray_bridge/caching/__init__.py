"""What trials on a node share: outputs and states of the frozen models, and fits that need both vocabularies."""
