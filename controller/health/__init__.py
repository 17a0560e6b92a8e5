"""What this process knows by itself of its broker and database, in memory.

`monitor` keeps the newest results of one of them; `probes` tests both every two seconds; `trail` looks
whether audit rows were lost; `faults` puts errors into words; `live` makes
conditions of them. None of it is read from the database, which may be what fails.
"""
