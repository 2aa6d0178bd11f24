"""`trefoil serve`: a model of any task behind HTTP. Needs the extra `serve`."""
