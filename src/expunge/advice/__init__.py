"""Which method to take for a request to a model: what fits, what it would cost, and a trial of it."""
