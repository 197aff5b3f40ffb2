"""Toolchains: an interpreter with one TensorRT in it, driven in a fresh child process."""
