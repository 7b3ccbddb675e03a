//! Message streams as PostgreSQL and its clients write them, and what they must come to.
mod corpus;
mod cuts;
mod extended;
mod holes;
mod random;
mod simple;
mod startup;
pub(crate) mod streams;
