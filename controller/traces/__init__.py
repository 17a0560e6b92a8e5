"""Traces: the spans of runs, for a collector of OpenTelemetry; a run's id is its trace id.

The controller makes them alone, once a report is stored: no node knows of them.

In reading order: `finished` (what a report says that the database does not keep), `clocks` (times of a
node among the controller's), `spans` (the spans of a run), `collector` (sending them), `recorder` (the queue
between the intake and the collector), `link` (the URL of a trace).
"""
