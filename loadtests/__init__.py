"""Load tests that tell the truth: Locust on gliogate's own client, open loop, with the server's view beside.

    python -m loadtests server --rate 20 --duration 60
    python -m loadtests server --find-max --slo "p99<250ms,errors<0.1%"
    locust -f loadtests/locustfile.py

What is scheduled, counted, judged and reported is plain code that knows no Locust; `driver`, `fleet`, `users` and the
command line, which imports `patched` first, run it. `locustfile` is Locust's own way, without any of these.
"""
