"""Looks: judging at 3, at 6 and at 12 seeds, so that seeds are spent where the doubt is. Never loads torch.

The look at n seeds sees seeds 0 to n - 1 and no others, so it is the same whenever it is made, and later seeds change
nothing in it. Each look has a third of the error rate. So an error occurs in at most 5% of cases over all looks (union
bound), whatever decides whether the next one is made.
"""

LOOKS = (3, 6, 12)  # seeds
