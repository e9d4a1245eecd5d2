"""The site's half of the secure sum (`shared_models/secure_sum`), and the rules that no server can talk it out of.

- At least three members, and as many survivors as the threshold, a strict majority, and the experiment's quorum ask for.
- Keys of peers count only with the signature of the peer's signing key, which the consortium certified.
- One masked update a slot; one list of survivors a slot; one set of survivors a round of a run, whatever slot it is tried in.
- Of a peer who answered the share of its own mask is opened, of one who did not the share of its key; of none both. Shares of keys are opened
  only with the signatures of a threshold of survivors under the same list.

    keys.py     keys and shares, once for several rounds        peers.py    the other hospitals' signing keys
    mask.py     the masked update                               store.py    secrets on disk between the stages
    unmask.py   what is opened, and for whom                    member.py   what all stages know of the site and read of a job
    summand.py  where the worker comes in
"""
