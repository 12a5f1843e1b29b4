"""What a run costs: price agreed, cost so far, receipt."""
