"""The hospital's side: the only code that touches pixels and names of patients."""
