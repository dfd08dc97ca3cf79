"""tests/e2e/test_connections.py over TLS; memory and handshakes are in test_tls.py."""

from tests.e2e.test_connections import (  # noqa: F401  found by their names
    small,
    test_far_too_many_connections_harm_nobody_either,
    test_one_connection_too_many_is_told_so_and_harms_nobody,
    test_t16_a_client_that_resets_takes_its_pipelined_requests_along,
    test_t16_a_thousand_pipelined_requests_are_answered_in_order,
    test_t16_pipelined_requests_wait_outside,
    test_t17_whoever_connects_and_vanishes_leaves_nothing_behind,
    test_t19_what_waits_for_a_slow_peer_is_bounded,
)
