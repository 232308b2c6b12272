"""Rewrites of a Graph: each takes a graph and gives an equal one."""
