mod calls;
mod cuts;
mod holes;
mod random;
mod requests;
mod streams;
