"""The ground floor: errors, array names, choices from TOML, arithmetic on model states, files."""
