"""Durable bytes: stores, create-once records, leases."""
