"""verl on a machine without an accelerator: platform, engine, workers and rollout.

verl 0.9.1 trains on CUDA and NPU devices; these modules give it what its own plugin points leave
open for another device. Nothing of verl is changed.
"""
