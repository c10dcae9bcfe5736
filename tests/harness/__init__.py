"""What the black-box tests share: a server under test, raw HTTP and WebSocket peers, a scripted authorizer."""
