"""What every room needs: errors, params, files, the row's schema, seeded orders, the record of a run.

It may use no other room.
"""
