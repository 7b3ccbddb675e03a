"""Statements in pipelines: many before one sync, and one of them wrong."""

import psycopg

with psycopg.connect("", autocommit=True) as connection:
    with connection.pipeline():
        for number in range(100):
            connection.execute("select %s::int as piped", [number])
    try:
        with connection.pipeline():
            connection.execute("select 1 as before_error")
            connection.execute("select 1 / 0 as in_error")
            connection.execute("select 1 as after_error")
    except psycopg.errors.DivisionByZero:
        pass
    connection.execute("select 1 as after_all")
