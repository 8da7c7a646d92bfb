"""The words that the rules know: terms of finance, strong and weak, and words that change what a statement says.

Terms are in the singular and in small letters, as `finance` and `near_duplicates` compare them.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG = _words("""
    401k accountant accounting accrual accrued amortization amortize annuity arbitrage atm auditor backwardation
    bailout bankrupt bankruptcy banking bearish bitcoin bondholder bookkeeping borrower borrowing broker brokerage
    budgeting bullish buyback capex cashflow cheque contango cpi creditor creditworthiness crowdfunding
    cryptocurrency currency debt debtor deflation depreciation devaluation dividend dollar earnings ebit ebitda
    econometric economics economy equities escrow etf ethereum euro eurozone fdic fico finance financial financially
    financing fintech forex gaap gdp hedging hyperinflation ifrs imf inflation insolvency insurance insurer
    investment investor invoice ipo irs lender lending lessee lessor libor lien liquidity loan macroeconomic
    macroeconomics microfinance monetary mortgage nasdaq nyse overdraft payable payroll pension pensioner portfolio
    prepayment profitability prospectus receivable recession refinance refinancing remittance retirement roth rupee
    salary savings securitisation securitization shareholder sofr solvency spac stablecoin stagflation stockbroker
    stockholder subprime tariff tax taxable taxation taxes taxpayer tranche treasuries underwriter underwriting usury
    volatility wage xbrl yen yuan
""")
"""Words that are seldom used outside finance."""

WEAK = _words("""
    account acquisition afford allowance amount annual apr asset audit balance bank bill billion blockchain bond bonus
    borrow bought budget business buy buyer buying capital card cash charge cheap checking coin collateral commodity
    company compensation consolidated contract corporate corporation cost coupon credit crypto deal debit deductible
    default deficit deposit derivative discount diversification diversified dow economic employer endowment equity
    exchange expense expensive export fee filing firm fiscal forecast franchise fraud freelance fund future goodwill
    gross growth hedge house impairment import income index industry insured interest inventory invest invested
    investing ira issuer lease lend lent leverage leveraged levy liabilities liability loss margin market maturity
    merger million money mutual net option outstanding overpriced owe paid par pay payer payment payout percent
    percentage plc poverty premium price principal profit proceeds property purchase quarter quarterly rate refund
    rent reserve retire return revenue risk sale saving scam sec sector sell seller selling settlement share
    short spend spending startup stock subsidiary surplus swap ticker trade trader trading transaction transfer trust
    unemployment valuation value var vat venture wealth withdraw withdrawal yield
""")
"""Words of finance that have another meaning too: the bank of a river, a share in the work."""

_PHRASES = """
    10 k, 10 q, adjustable rate, annual report, auto lease, balance sheet, bank account, bank fee, bank loan, bank
    money, bank statement, basis point, bear market, black scholes, bond market, bond price, bond trade, bond yield,
    break even, bull market, buy share, buy stock, call option, capital gain, car insurance, cash flow, central bank,
    checking account, convert currency, cost basis, cost capital, cost debt, cost living, credit bureau, credit card,
    credit default, credit history, credit limit, credit report, credit score, credit union, currency pair, debit
    card, deferred revenue, direct deposit, discount cash, dollar cost, dow jone, down payment, earn money, economic
    growth, emergency fund, equity fund, exchange rate, federal reserve, financial advice, fiscal policy, fiscal year,
    fixed income, foreign exchange, form 1040, form 1099, form 1120, future contract, future value, gift tax, gold
    bar, gold coin, gold price, gold silver, gross domestic, gross income, gross margin, gross profit, health
    insurance, hedge fund, home equity, house price, household spending, housing market, income statement, index fund,
    insider trading, interest charge, interest income, interest rate, invest money, joint account, junk bond, lease
    buy, letter credit, limit order, low interest, make money, managing money, market cap, market capitalization,
    market maker, market order, minimum wage, money bank, money laundering, money market, money order, mutual fund,
    nest egg, net income, net profit, net sale, net worth, note payable, oil price, operating income, operating lease,
    operating margin, option price, option trading, own stock, paper money, payday loan, penny stock, per share,
    personal finance, poverty line, present value, price gold, price index, price level, price per, profit loss,
    property tax, purchase price, purchasing power, put option, quantitative easing, quarterly report, rate return,
    real estate, rental property, reserve requirement, return equity, return investment, revenue profit, reverse
    stock, roth ira, save money, save retire, save retirement, saving money, savings account, self insuring, send
    money, share buyback, share company, share outstanding, share price, sharpe ratio, short sell, short selling,
    short stock, side income, social security, standing order, stock exchange, stock market, stock option, stock
    price, stock split, stock trading, stop loss, student loan, supply demand, tax return, time value, trade deficit,
    traditional ira, treasury bill, treasury bond, treasury note, treasury yield, trust fund, unemployment rate, value
    risk, venture capital, wealth management, wire transfer, working capital, yield curve
"""

PHRASES = frozenset(tuple(phrase.split()) for phrase in _PHRASES.split(","))
"""Pairs of words that count as a strong one. Words such as `of` and `and` between them do not count."""

BETWEEN = _words("a an and at for in of on our the to your")
"""Words that may stand between the two words of a phrase."""

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

ENGLISH = _words("""
    the of and to is are were that this it with by from be have had its which what how does did can could would should
    not or but if than their they you your we there when who why after before about into any over my write describe
    explain give
""")
"""Words that show that a text is English. None of them is a word of a language below."""

OTHER_LANGUAGES = _words("""
    der das und ist nicht ein eine einen von mit auf für dem den im zu zum zur sich auch wird sind bei nach aus wie het
    een van zijn niet voor dat deze wordt ook naar bij uit hoe wat
    le la les du des et dans pour que qui sur pas ce cette avec au aux sont ont quelle quel une el los las del en por
    para como más lo qué cuál sobre su tras um uma da das não na são mais ao pelo pela qual il gli di che della dei nel
    sono alla una
    och att det som är på av för ett ikke og ja ei se oli mutta kuin ovat na że nie jest się od jak je ve bir bu için
    ile olan gibi yang dan di itu dengan untuk dari pada adalah și în nu cu este
""")
"""Words that show that a text is in another language that is written in Latin letters."""
