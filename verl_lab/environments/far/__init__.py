"""Programs that run on a host, sent there as text: nothing of verl-lab has to be installed for them.

``survey``, ``look`` and ``reach`` run on the standard library of Python 3.8 and answer with one line of JSON;
``runner`` is run by the Python that an environment is made with.
"""
