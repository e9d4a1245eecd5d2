"""The secure sum: what both ends need so that the server learns the total of the sites' updates and no single one.

Double masking after Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS 2017. Every site adds to its
update a stream for each other site, which that one subtracts, and a stream of its own. The first kind cancels in the sum; seeds of the second,
and of the first for sites that have dropped out, are rebuilt from shares that the others hold. A site gives, for each other, one kind of
share and never both.

    stage    the server sends                                  a site answers                                       how often
    keys     a number for the group                            public keys for the next rounds, signed              once for `ahead` rounds
    shares   all public keys, their signatures                 shares of its secret keys, sealed for each peer      once for `ahead` rounds
    fit      the model, who is in the group                    its masked update, sealed shares of its own mask     each round
    agree    who has answered                                  its signature of that list                           only when somebody is missing
    unmask   who has answered, the sealed shares for the site  opened shares: own masks of those who answered,      each round
                                                               keys of those who did not

What the stages rely on: at least three sites (`group.LEAST_SITES`), and a threshold above half of them, so that no two lists of survivors can
both be carried out: without the signatures of a threshold of sites nobody opens a share of a key.
"""
