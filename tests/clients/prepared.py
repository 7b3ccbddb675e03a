"""Prepares statements, says so, and runs them once a line comes in."""

import sys

import psycopg

with psycopg.connect("", autocommit=True) as connection:
    connection.execute("select %s::int as early", [0], prepare=True)
    print("prepared", flush=True)
    sys.stdin.readline()
    for number in range(50):
        connection.execute("select %s::int as early", [number], prepare=True)
        connection.execute("select %s::int as late", [number], prepare=True)
