"""Statements by PyMySQL: one by one, several at once, wrong ones, and a file."""

import sys

import pymysql

host, port, _socket, file = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
connection = pymysql.connect(
    host=host,
    port=port,
    user="root",
    database="shop",
    program_name="till",
    autocommit=True,
    local_infile=True,
    client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
)
with connection, connection.cursor() as cursor:
    cursor.execute("create table piled (id int primary key, name varchar(20))")
    for number in range(50):
        cursor.execute("insert into piled values (%s, %s)", (number, f"piled {number}"))
        cursor.execute("select name from piled where id = %s", (number,))
        assert cursor.fetchall() == ((f"piled {number}",),)
    cursor.execute("select id from piled where id > 3; update piled set name = 'x' where id < 5; select 7 as seven")
    while cursor.nextset():
        pass
    for wrong in ["select nothing from piled", "insert into piled values (1, 'again')", "selec 1"]:
        try:
            cursor.execute(wrong)
        except pymysql.MySQLError:
            pass
    cursor.execute(f"load data local infile '{file}' into table piled")
    for _ in range(5):
        connection.ping(reconnect=False)
    connection.select_db("shop")
