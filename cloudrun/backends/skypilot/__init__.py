"""Rent machines through SkyPilot: the backend, and all code that uses SkyPilot's records, catalogs and provisioners."""
