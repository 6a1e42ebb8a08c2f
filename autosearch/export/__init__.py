"""From a trial to a folder that runs without this toolkit: graph, tensors, thresholds, card."""
