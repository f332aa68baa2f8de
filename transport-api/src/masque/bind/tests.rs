use super::*;

#[test]
fn ends_allocate_by_parity() {
    for (context, client, proxy) in [(0, false, false), (1, false, true), (2, true, false)] {
        assert_eq!(Role::Client.allocates(context), client, "{context}");
        assert_eq!(Role::Proxy.allocates(context), proxy, "{context}");
    }
}
