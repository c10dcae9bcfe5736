mod channels;
mod commands;
mod connecting;
mod counts;
mod ending;
mod fairness;
mod http;
mod metrics;
