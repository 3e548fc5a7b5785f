"""Converters, golden files and parity checks for the Ocellus C++ library."""

__version__ = "0.1.0"
