"""The words that the rules know: terms of finance, strong and weak, and words that change what a statement says.

Terms are in the singular and in small letters, as `finance` and `near_duplicates` compare them.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG = _words("""
    401k accountant accounting accrual accrued afford amortization amortize annuity apr arbitrage asset atm
    auditing auditor backwardation bailout banking bankrupt bankruptcy bearish bitcoin blockchain bondholder
    bookkeeping borrower borrowing broker brokerage budget budgeting bullish buyback capex cash cashflow
    checking cheque collateral commodity consolidated contango cpi creditor creditworthiness crowdfunding crypto
    cryptocurrency currency debit debt deductible deflation depreciation derivative devaluation diversification
    diversified dividend dollar dow earnings ebit ebitda econometric economics economy endowment eps equity
    escrow etf ethereum euro eurozone expense fdic fico filing finance financial financially financing fintech
    fiscal forex freelance gaap gdp goodwill hedge hedging hyperinflation ifrs imf impairment inflation
    insolvency insurance insured insurer invest invested investing investment investor invoice ipo ira irs
    lender lending lessee lessor leverage leveraged levy liabilities liability libor lien liquidity loan
    macroeconomic macroeconomics merger microfinance monetary money mortgage mutual nasdaq nyse overdraft
    overpriced payable paypal payroll pension pensioner portfolio prepayment proceeds profit profitability
    prospectus receivable recession refinance refinancing refund remittance rent retirement revenue roth rupee
    salary saving savings sec securitisation securitization shareholder sofr solvency spac stablecoin
    stagflation stockbroker stockholder subprime swap tariff tax taxable taxation taxes taxpayer ticker tranche
    treasuries treasury underwriter underwriting usury valuation var vat volatility wage wealth xbrl yen yuan
""")
"""Words that are seldom used outside finance."""

WEAK = _words("""
    account acquisition allowance amount annual audit balance bank bill billion bond bonus borrow business buy
    buyer buying capital card charge cheap claim coin company compensation consumer contract corp corporate
    corporation cost coupon credit customer customs deal default deficit deposit discount economic employer
    entrepreneur estate exchange expensive export exporter fee firm forecast franchise fraud fund future gain
    gold gross growth headquarter import inc income index industry interest inventory issuer lease loss margin
    market maturity million net note oil option outstanding owe owner ownership paid par pay payer payment
    payout percent percentage plc points poverty premium price principal property purchase quarter quarterly
    rate recurring reserve retire return risk sale scam sector security segment sell seller selling settlement
    share shop short spend spending startup statement stock subsidiary supplier supply surplus trade trader
    trading transaction transfer trust unemployment value venture withdraw withdrawal yield
""")
"""Words of finance that have another meaning too: the bank of a river, a share in the work."""

_PHRASES = """
    10 k, 10 q, annual report, balance sheet, bank account, bank statement, basis point, bear market, black
    scholes, bond trade, break even, bull market, business plan, call option, capital gain, central bank, cost
    of, credit card, credit default, credit score, debit card, december 31, down payment, emergency fund,
    exchange rate, executive officer, federal reserve, fiscal year, future value, gift tax, gross income, gross
    margin, hedge fund, household spending, index fund, insider trading, interest income, interest rate, joint
    account, legal proceeding, letter of, limit order, market capitalization, market maker, market share,
    minimum wage, money market, my share, nest egg, net income, net sale, note payable, operating income,
    opportunity cost, per share, poverty line, present value, price index, property tax, purchase order, put
    option, quantitative easing, real estate, reverse stock, send money, share price, sharpe ratio, short sell,
    standing order, stock market, stock option, stock price, stock split, stop loss, supply and, trade deficit,
    trust fund, value at, venture capital, wire transfer, working capital, year end, yield curve
"""

PHRASES = frozenset(tuple(phrase.split()) for phrase in _PHRASES.split(","))
"""Pairs of words that count as a strong one."""

_CONTRASTS = """
    constant down flat steady unchanged up;
    advance advances climb climbed climbs decline declined declines drop dropped drops dull ease eased eases
        extend extended extends fall fallen falling falls fell firm flat gain gained gains held hold holds jump
        jumped jumps lose loses lost mixed plunge plunged plunges rebound rebounded rebounds recovered rise
        risen rises rising rose sank shine shines sink sinks slid slide slides slip slipped slips soar soared
        soars soften softens steady surge surged surges trim trims tumble tumbled tumbles volatile weak weaken
        weakens;
    decrease decreased decreases decreasing growth increase increased increases increasing reduction shrank;
    high higher highest highs low lower lowest lows;
    gain gains loss losses profit profits;
    bearish bullish mixed negative neutral positive;
    buy buys hold neutral outperform overweight sell sells underperform underweight;
    downgrade downgraded downgrades upgrade upgraded upgrades;
    cut cuts lift lifted lifts raise raised raises reduce reduced reduces trim trimmed trims;
    above beat beats below miss missed misses over under;
    current fifth final first following fourth future last next past previous prior second third;
    call long put short;
    after before;
    fewer least less max maximum min minimum more most;
    asset assets cost costs credit debit debt equity expense expenses income liabilities liability revenue
    revenues;
    demand export exports import imports supply;
    beginning close closed closes end ending open opened opens start;
    best better strong stronger weak weaker worse worst;
    domestic foreign international;
    current deferred gross net noncurrent unearned;
    large mid small;
    billion billions bn million millions mn thousand thousands trillion trillions;
    apr april aug august dec december feb february jan january jul july jun june mar march may nov november oct
    october sep sept september;
    friday monday saturday sunday thursday tuesday wednesday;
    annual annually daily monthly quarterly weekly yearly;
    aluminium aluminum cardamom chana cocoa coffee copper corn cotton crude gold guar jeera lead nickel oil
    palladium palmolein pepper platinum rubber silver soyabean soybean sugar turmeric wheat zinc;
    with without;
    can cannot;
    borrower buyer lender seller;
    day days month months quarter quarters week weeks year years;
    country company market stock sector global;
    hour hours minute minutes;
    from to;
    gold goldpetal goldguinea goldm silverm;
    crude mentha palm castor mustard
"""

CONTRASTS = [_words(group) for group in _CONTRASTS.split(";")]
"""The words of one group exclude each other: a statement with one of them replaced by another says something else."""

NUMBERS = _words("""
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred fourth fifth sixth seventh eighth ninth tenth
""")

FUNCTION_WORDS = _words("""
    a an and are as at be but by for from had has have he her his how i if in is it its more most my no not of on or our
    she so that the their there these they this to was we were what when which who will with you your s t
""")
"""Words that can stand beside any other."""

NEGATIONS = _words("cannot neither never no nor not without")
