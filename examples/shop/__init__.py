"""A small shop: products, orders, a login, and a payment service that can be told to fail."""
