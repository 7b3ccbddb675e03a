//! Message streams as PostgreSQL and its clients write them, and what they must come to.
mod simple;
mod startup;
mod streams;
