"""Rent machines through SkyPilot: the backend, and all that rests on SkyPilot's records, catalogs and provisioners."""
