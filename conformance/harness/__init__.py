"""What the black-box tests and scripts share: the three processes, peers, senders and comparison."""
