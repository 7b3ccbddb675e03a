mod calls;
mod corpus;
mod cuts;
mod holes;
mod random;
mod requests;
mod streams;
