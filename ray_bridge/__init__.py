"""One translator job: frozen source, trained bridge, frozen target, and the accuracy that comes of it."""
