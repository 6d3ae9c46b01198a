"""The program that serves a host over one SSH channel. It runs there, on the standard library of Python 3.8 alone.

Its modules are sent as text when a connection begins, so nothing of verl-lab has to be installed on the host.
"""
