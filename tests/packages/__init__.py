"""The packages and the single file, in clean root folders: `make test-packages`."""
