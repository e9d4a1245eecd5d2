"""What hospital and server must agree on: arrays, tables of models, messages, metrics, bundles."""
