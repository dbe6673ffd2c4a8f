"""The only code that knows Ray Tune: experiment, searcher, stopper, trainable, nodes."""
