"""Measuring: how good alphas are against truth masks, where evaluation sets lie, and the report about them."""
