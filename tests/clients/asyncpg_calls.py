"""Statements by asyncpg: many at once over a pool, prepared ones, transactions, cursors, copies, and wrong ones."""

import asyncio

import asyncpg


async def main():
    # Where the server is says the environment.
    async with asyncpg.create_pool(database="postgres", min_size=4, max_size=4) as pool:
        await pool.execute("create table things (id int primary key, name text)")
        await pool.executemany("insert into things values ($1, $2)", [(n, f"thing {n}") for n in range(50)])
        await asyncio.gather(*(pool.fetchval("select name from things where id = $1", n % 50) for n in range(300)))
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("things", records=[(n, "copied") for n in range(100, 200)])
            statement = await connection.prepare("select id, name from things where id > $1 order by id")
            assert len(await statement.fetch(150)) == 49
            async with connection.transaction():
                async for _ in connection.cursor("select id from things where id < $1", 40, prefetch=500):
                    pass
            for wrong in ["select 1 / 0", "insert into things values (1, 'again')", "select * from nothing"]:
                try:
                    await connection.fetch(wrong)
                except asyncpg.PostgresError:
                    pass
        await pool.execute("drop table things")


asyncio.run(main())
