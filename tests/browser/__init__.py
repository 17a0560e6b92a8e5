"""Tests of the dashboard in a real Chromium, over one controller and one believable cluster."""
