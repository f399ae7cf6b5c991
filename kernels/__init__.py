"""Kernels compiled at run time; a module's name says its operation and technology."""
