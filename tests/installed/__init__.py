"""The operator as an installed stack on a lab: images, installation, and the tests of `make test-stack`."""
