"""Connects once a line comes in, over and over: psycopg brings an OpenSSL of its own."""

import sys

import psycopg

for line in sys.stdin:
    with psycopg.connect("", autocommit=True, sslmode="require") as connection:
        connection.execute("select %s::int as bundled", [1])
    print("done", flush=True)
