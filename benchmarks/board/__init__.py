"""The leaderboard: tables of comparable results."""
