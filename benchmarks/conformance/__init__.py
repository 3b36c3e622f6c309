"""Checks of the contract of ``detectors.interface`` on synthetic images, for any weights."""
