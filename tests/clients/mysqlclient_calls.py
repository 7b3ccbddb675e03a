"""Statements by mysqlclient: one by one, many at once, several in one, wrong ones, and answers read row by row."""

import sys

import MySQLdb
from MySQLdb.cursors import SSCursor

host, port, socket, via = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
place = {"unix_socket": socket} if via == "socket" else {"host": host, "port": port}
connection = MySQLdb.connect(user="root", database="shop", **place)
cursor = connection.cursor()
cursor.execute("create table things (id int primary key, name varchar(20))")
cursor.executemany("insert into things values (%s, %s)", [(n, f"thing {n}") for n in range(100)])
connection.commit()
for n in range(100):
    cursor.execute("select name from things where id = %s", (n,))
    assert cursor.fetchall() == ((f"thing {n}",),)
cursor.execute("select 1, 'one'; update things set name = 'x' where id < 5; select 7")
while cursor.nextset():
    pass
for wrong in ["select nothing from things", "insert into things values (1, 'again')", "selec 1"]:
    try:
        cursor.execute(wrong)
    except MySQLdb.Error:
        pass
connection.rollback()
connection.ping()
connection.select_db("shop")
cursor.close()
with connection.cursor(SSCursor) as rows:
    rows.execute("select * from things")
    assert sum(1 for _ in rows) == 100
cursor = connection.cursor()
cursor.execute("drop table things")
connection.close()
