"""What holds of plain connections holds of those over TLS: the same tests once more.

They know nothing of it: the gateway is configured with a certificate, and clients speak TLS.
"""
