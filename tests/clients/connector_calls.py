"""Prepared statements by MySQL's connector; with a line in between where one is to come."""

import sys

import mysql.connector

host, port, waits = sys.argv[1], int(sys.argv[2]), "waits" in sys.argv
connection = mysql.connector.connect(
    host=host, port=port, user="root", database="shop", use_pure=True, ssl_disabled=True, autocommit=True
)
early = connection.cursor(prepared=True)
early.execute("select 'early', ?", (0,))
early.fetchall()
print("prepared", flush=True)
if waits:
    sys.stdin.readline()
late = connection.cursor(prepared=True)
for number in range(50):
    early.execute("select 'early', ?", (number,))
    early.fetchall()
    late.execute("select 'late', ?, ?", (number, "x" * 10_000))
    late.fetchall()
connection.close()
