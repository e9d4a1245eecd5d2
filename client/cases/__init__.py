"""Patients, visits and volumes as a site holds them."""
