"""The pages of `cloudrun ui`: all runs, one run while it goes on, runs compared, receipts by month.

A page of one run and a comparison are those of `render/report`, in another layout. Pure: `cloudrun/ui` brings the
values and serves what comes out.
"""
