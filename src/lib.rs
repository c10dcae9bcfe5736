pub mod authorizer;
pub mod effect;
